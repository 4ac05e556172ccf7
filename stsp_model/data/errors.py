"""The error that every reader raises; apart, so that a command's help does not wait for PyTorch."""


class DataError(ValueError):
    """A data set that is not what its reader expects; the sentence says what was found."""


class NothingOfSplitError(DataError):
    """A data set that is as it should be, and holds nothing of the split that is asked for."""
