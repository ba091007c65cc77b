"""Street scenes as pairs of photo and label map: the label table, PNG files, data sets, drawn scenes, batches."""
