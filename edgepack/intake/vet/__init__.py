"""Checks of untrusted sources before any framework loads them: rules with reasons, one clear error, nothing run.

`keras_archive`, `keras_config` and `zip_entries` need the standard library only and run in the parent; `hdf5` needs h5py, `graph` and
`saved_model` TensorFlow's registry of operators: those run in the child.
"""
