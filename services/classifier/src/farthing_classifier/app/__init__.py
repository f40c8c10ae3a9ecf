"""The use cases of the classifier: say what a prompt needs (`analyzing`), and whether an answer will do (`judging`)."""
