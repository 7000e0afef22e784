package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// claim is what docs/docker.md says of a command or a flag.
type claim struct{ verdict, why string }

// TestDockerPage holds docs/docker.md against the program, and against docker's own list of commands and flags.
func TestDockerPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/docker.md")
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]claim{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (works|differs|not) \\| ?(.*?) ?\\|$").FindAllStringSubmatch(string(page), -1) {
		if _, twice := claims[row[1]]; twice {
			t.Errorf("%s stands there twice", row[1])
		}
		claims[row[1]] = claim{row[2], row[3]}
	}
	list, err := os.ReadFile("testdata/docker.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := (&app{}).root("strata", []string{"help"})
	for line := range strings.Lines(string(list)) {
		kind, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "command":
			checkClaim(t, claims, name, commandIsThere(root, strings.Fields(name)))
		case "flag":
			create := name != "detach" && name != "detach-keys" && name != "sig-proxy"
			run, made := flagIsThere(root, "run", name), flagIsThere(root, "create", name)
			if create && run != made {
				t.Errorf("--%s: run has it %v, create %v", name, run, made)
			}
			if !run && absentFlags[name] == "" {
				t.Errorf("--%s is refused without a reason", name)
			}
			checkClaim(t, claims, "--"+name, run)
		}
	}
	for name := range claims {
		t.Errorf("%s is none of docker's", name)
	}
}

// checkClaim checks one claim and takes it away.
func checkClaim(t *testing.T, claims map[string]claim, name string, there bool) {
	t.Helper()
	c, ok := claims[name]
	delete(claims, name)
	switch {
	case !ok:
		t.Errorf("docs/docker.md says nothing of %s", name)
	case there != (c.verdict != "not"):
		t.Errorf("docs/docker.md says %q of %s, which is there: %v", c.verdict, name, there)
	case (c.verdict == "works") != (c.why == ""):
		t.Errorf("docs/docker.md says %q of %s and gives the reason %q", c.verdict, name, c.why)
	}
}

func commandIsThere(root *cobra.Command, words []string) bool {
	c, rest, err := root.Find(words)
	return err == nil && len(rest) == 0 && c != root && c.Name() == words[len(words)-1]
}

func flagIsThere(root *cobra.Command, verb, name string) bool {
	c, _, err := root.Find([]string{verb})
	return err == nil && c.Flags().Lookup(name) != nil
}
