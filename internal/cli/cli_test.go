package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestVerbsStandUnderTheirNouns: what docker has at the top and under a noun is in both places or in neither.
func TestVerbsStandUnderTheirNouns(t *testing.T) {
	a := &app{}
	root := a.root("strata", []string{"help"})
	exists := func(words ...string) bool {
		found, rest, err := root.Find(words)
		return err == nil && len(rest) == 0 && found != root && (len(words) == 1 || found.Parent() != root)
	}
	for noun, verbs := range map[string]string{"container": containerVerbs, "image": imageVerbs, "system": systemVerbs} {
		for verb := range strings.FieldsSeq(verbs) {
			top, below, renamed := strings.Cut(verb, "=")
			if !renamed {
				below = top
			}
			for _, name := range strings.Split(below, "/") {
				if at, under := exists(top), exists(noun, name); at != under {
					t.Errorf("%s at the top: %v; %s %s: %v", top, at, noun, name, under)
				}
			}
			if exists(top) && (word(laterCommands, top) || absentCommands[top] != "") {
				t.Errorf("%s is there and listed as missing", top)
			}
		}
	}
	for _, words := range []string{"image inspect", "image prune", "container inspect", "container prune", "system df", "system prune", "builder prune"} {
		if !exists(strings.Fields(words)...) {
			t.Errorf("no %s", words)
		}
	}
}

// TestEveryCommandHasHelp also holds that no two flags of a command are in each other's way, which cobra tells by a panic.
func TestEveryCommandHasHelp(t *testing.T) {
	a := &app{}
	root := a.root("strata", []string{"help"})
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		var out bytes.Buffer
		c.SetOut(&out)
		c.InitDefaultHelpFlag()
		a.help(c, nil)
		if text := out.String(); !strings.HasPrefix(text, "Usage:  "+c.CommandPath()) || c.Short == "" || strings.Contains(text, "[flags]") {
			t.Errorf("%s:\n%s", c.CommandPath(), text)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

func TestNear(t *testing.T) {
	names := []string{"build", "image", "images", "run", "rm", "rmi", "ps", "help"}
	for typed, want := range map[string]string{
		"imagse": "image images", "biuld": "build", "ru": "rm run", "hepl": "help", "buil": "build", "RUN": "run", "zzz": "", "x": "", "rmii": "rmi",
		"ima": "image images",
	} {
		got := near(typed, names)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}
