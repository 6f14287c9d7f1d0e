"""Parts of the SDK that some libraries import."""
