"""Small worlds of drawn things, with sentences, questions and clips about them."""
