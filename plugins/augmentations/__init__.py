"""What judges see images through in training (`--models dcgan+hinge+diffaug`)."""
