"""`stsp bench`: how long everything from an image message to the skeleton takes on this machine."""
