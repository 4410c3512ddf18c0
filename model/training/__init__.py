"""How nano is trained: the synthetic world, then one readable loop per stage."""
