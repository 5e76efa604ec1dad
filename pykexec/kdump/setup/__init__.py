"""``pykdump setup``: do what is missing for a kdump that works, and take it back.

What is to be done is decided first, from files alone (`plan`); then it is shown, and done (`steps`). A
receipt of each step tells `undo` what to take back. Boot loaders have a module each; they return a
`change.Change`, and never touch a file that they cannot read.
"""
