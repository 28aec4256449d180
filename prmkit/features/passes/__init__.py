"""What every pass of a transformer over marked tokens needs: safe loading, attention in blocks, common beginnings."""
