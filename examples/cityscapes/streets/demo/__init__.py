"""The page to paint on, by gradio, and the functions behind it, which know nothing of gradio."""
