"""What the pipeline does to a frame: detect, keypoints, ankles, smooth, lift."""
