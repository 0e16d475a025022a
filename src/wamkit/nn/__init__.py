"""Building blocks of the parts: invertible transforms and models of other libraries."""
