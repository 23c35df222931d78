"""What is asked: which questions, how often, from which accounts, and in what form."""
