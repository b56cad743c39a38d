"""Networks: the vision-language model, its prompts, its forward passes, the discriminator."""
