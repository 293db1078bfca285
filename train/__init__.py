"""Training: paired images become a U-Net generator and a PatchGAN discriminator in Keras."""
