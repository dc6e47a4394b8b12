"""Following what is to be served: bundles are loaded, checked and swapped while requests go on."""
