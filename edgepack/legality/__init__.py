"""Is the finished graph legal on the device: rules and providers' operator tables, both data in the target profiles."""
