"""The facility's ingestor, played by a client with the same habits: how data sets reach the archive.

It lists a folder, creates the data set in the catalogue with the list of its files, asks the archiver for a
place in the landing zone, sends the files to the URLs it gets, and says when it is done. What goes over the wire
is what the Go program in the field sends: see `listing`, `archiver_client` and `upload`.
"""
