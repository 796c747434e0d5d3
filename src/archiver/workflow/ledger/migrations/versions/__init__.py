"""One module per migration; never changed once released."""
