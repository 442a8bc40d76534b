"""The feed-forward half of a layer: norm and feed-forward of one stream, added to the other."""
