package engine

import "testing"

func TestWithoutPassword(t *testing.T) {
	for address, want := range map[string]string{
		"http://proxy:3128":                "http://proxy:3128",
		"http://me:secret@proxy:3128":      "http://xxxxx:xxxxx@proxy:3128",
		"me:secret@proxy:3128":             "xxxxx:xxxxx@proxy:3128",
		"http://me:with@sign@proxy:3128/x": "http://xxxxx:xxxxx@proxy:3128/x",
		"localhost,.example.com":           "localhost,.example.com",
	} {
		if got := withoutPassword(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Setenv("STRATA_TEST_DIR", "/set")
	for value, want := range map[string]string{"/set": "STRATA_TEST_DIR", "/usual": "default"} {
		if got := origin(value, "STRATA_TEST_DIR", "/usual", "/other"); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

func TestSearchTerm(t *testing.T) {
	for term, want := range map[string][2]string{
		"ubuntu":                {"docker.io", "ubuntu"},
		"library/ubuntu":        {"docker.io", "library/ubuntu"},
		"localhost:5000/app":    {"localhost:5000", "app"},
		"quay.io/some/app":      {"quay.io", "some/app"},
		"docker.io/ubuntu":      {"docker.io", "ubuntu"},
		"localhost/x":           {"localhost", "x"},
		"index.docker.io/busy":  {"docker.io", "busy"},
		"registry.example.org/": {"registry.example.org", ""},
	} {
		registry, word := searchTerm(term)
		if registry != want[0] || word != want[1] {
			t.Errorf("%s: %s, %s", term, registry, word)
		}
	}
}
