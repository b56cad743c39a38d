"""Lit-VDistill: distilling video-language models with R-MSD and VISD."""
