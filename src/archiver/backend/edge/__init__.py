"""The upload edge: signed URLs of the API whose PUTs are streamed on to the landing storage."""
