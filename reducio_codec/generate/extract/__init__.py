"""Videos to shards: latents, key pictures and conditions, computed once, that training reads again and again."""
