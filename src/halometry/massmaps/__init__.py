"""Mass maps: residual and convergence maps of images, as inputs of networks."""
