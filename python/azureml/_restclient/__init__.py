"""Private paths of the SDK that libraries and users import all the same."""
