"""What the words of the command line do: `studies` runs and reports, `reviews` checks what others
ran, `about` says what there is.
"""
