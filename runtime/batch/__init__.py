"""A million pictures over night, on this machine or on many: Ray Data distributes, the sink's folder remembers."""
