"""The steps of a release that need no GitHub; the workflows only call them."""
