"""Building blocks of the parts: invertible transforms, typed module dictionaries, models of other libraries."""
