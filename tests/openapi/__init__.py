"""The linters of the API's document, which come from npm."""
