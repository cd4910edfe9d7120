"""What is predicted: files, folders, lists, archives and addresses, as a stream of items."""
