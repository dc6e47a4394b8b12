"""Deployments: bundles of the registry are loaded, checked and swapped while requests go on."""
