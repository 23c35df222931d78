"""What the words of the command line do: `studies` plans, runs and reports, `reviews` checks what
others ran, `recording` and `serving` ask a study's teacher or offer it, `models` converts,
`plugins` checks other people's components, `about` says what there is.
"""
