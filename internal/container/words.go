package container

// The words of random names: adjective_surname, as docker makes them. The surnames are of people who advanced computing,
// mathematics and the sciences.

var adjectives = [...]string{
	"able", "agile", "amber", "ample", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "cheerful", "clever", "crisp", "curious",
	"daring", "deft", "eager", "earnest", "easy", "fair", "festive", "fond", "frank", "gentle", "glad", "golden", "graceful", "happy", "hardy",
	"honest", "humble", "jolly", "keen", "kind", "lively", "lucid", "merry", "mellow", "mindful", "modest", "nimble", "noble", "patient", "plucky",
	"polite", "proud", "quick", "quiet", "radiant", "serene", "sharp", "silver", "sincere", "steady", "sunny", "tender", "vivid", "warm", "witty",
}

var surnames = [...]string{
	"allen", "babbage", "banach", "bohr", "boole", "cantor", "cerf", "cori", "curie", "darwin", "dijkstra", "einstein", "engelbart", "erdos", "euclid",
	"euler", "faraday", "fermi", "feynman", "franklin", "galois", "gauss", "germain", "goedel", "goodall", "hamilton", "hopper", "hypatia", "johnson", "kepler",
	"knuth", "kowalevski", "lamarr", "lamport", "lehmann", "leibniz", "liskov", "lovelace", "maxwell", "mcclintock", "meitner", "mendel", "mirzakhani", "moore", "newton",
	"noether", "pascal", "perlman", "planck", "ramanujan", "ride", "ritchie", "shannon", "somerville", "tesla", "thompson", "torvalds", "turing", "wing", "wozniak",
}
