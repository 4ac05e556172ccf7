"""Training in stages (finder, epe, lift, finetune) on Lightning Fabric; `stsp train` runs one.

Everything random is a function of the configuration's seed and the step's number, so a run that was
killed goes on from its checkpoint to exactly the weights it would have had.
"""
