"""What a datablock is: entries, the plan that deals them out, the tar and the bag. Pure."""
