"""The options of each built-in provider, as pydantic models that need none of the providers' libraries."""
