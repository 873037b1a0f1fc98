"""How rows look: as pictures or as columns, chosen for each observed variable; the answers of the explorer show them."""
