"""Tasks that are judged without taste: right or wrong by judges that saw real data only."""
