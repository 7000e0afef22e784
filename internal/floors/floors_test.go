package floors_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the main module; import paths below it are directories below root.
const (
	module = "strata"
	root   = "../.."
)

// floorOf gives every package its floor. Floors compare as text; "2b" stands between 2 and 3.
func floorOf() map[string]string {
	return invert(map[string][]string{
		"0":  {"internal/errdef", "internal/progress", "internal/parallel", "internal/beside", "internal/floors"},
		"1":  {"internal/oci", "internal/reference", "internal/atomicfile", "internal/mount", "internal/userns", "internal/stepwire", "internal/cgroup", "internal/isolate", "internal/config", "internal/disk"},
		"2":  {"internal/content", "internal/layer", "internal/record", "internal/graph", "internal/dockerfile", "internal/nameserver"},
		"2b": {"internal/rootfs", "internal/event", "internal/program"},
		"3":  {"internal/image", "internal/runtime", "internal/remote", "internal/network", "internal/fetch"},
		"4":  {"internal/build", "internal/container", "internal/archive", "internal/base", "internal/doctor", "internal/ship"},
		"5":  {"internal/engine"},
		"5b": {"scripts/buildkit"}, // for the programs beside strata
		"6":  {"internal/cli/render"},
		"6b": {"internal/cli"},
		"7":  {"cmd/strata"},
	})
}

// banned are libraries that no package may import, by prefix of the import path, with the reason. Tests may.
func banned() map[string]string {
	return map[string]string{
		"github.com/distribution/reference": "it compiles regular expressions when a program starts; use internal/reference",
		"oras.land/oras-go":                 "it compiles regular expressions when a program starts",
		"github.com/containerd/console":     "use golang.org/x/term",
		"github.com/opencontainers/runc":    "programs of their own link it: strata-runc, and cmd/strata-step",
		"gvisor.dev/gvisor":                 "only in cmd/strata-net",
		"google.golang.org/grpc":            "too heavy",
		"google.golang.org/protobuf":        "too heavy",
		"github.com/sirupsen/logrus":        "use log/slog",
		"github.com/spf13/viper":            "too heavy",
		"github.com/pkg/errors":             "use fmt.Errorf and errdef",
		"github.com/docker/":                "use what is written here",
		"github.com/moby/buildkit":          "only its Dockerfile packages, and those only in internal/dockerfile and internal/build",
		"github.com/google/go-cmp":          "for tests",
		"pgregory.net/rapid":                "for tests",
		"github.com/rogpeppe/go-internal":   "for tests",
		"testing":                           "for tests",
		"net/http/pprof":                    "it registers itself",
	}
}

// allowed are the exceptions to [banned]: import paths and the packages that may import them.
func allowed() map[string][]string {
	const frontend = "github.com/moby/buildkit/frontend/dockerfile/"
	exceptions := map[string][]string{}
	for _, p := range []string{"parser", "instructions", "linter", "shell", "command"} {
		exceptions[frontend+p] = []string{"internal/dockerfile", "internal/build"}
	}
	for _, p := range []string{"libcontainer", "libcontainer/configs", "libcontainer/nsenter", "libcontainer/seccomp", "libcontainer/specconv"} {
		exceptions["github.com/opencontainers/runc/"+p] = []string{"cmd/strata-step"}
	}
	for _, p := range []string{"buffer", "tcpip", "tcpip/checksum", "tcpip/adapters/gonet", "tcpip/header", "tcpip/link/fdbased", "tcpip/network/arp", "tcpip/network/ipv4", "tcpip/network/ipv6",
		"tcpip/stack", "tcpip/transport/icmp", "tcpip/transport/tcp", "tcpip/transport/udp", "waiter"} {
		exceptions["gvisor.dev/gvisor/pkg/"+p] = []string{"cmd/strata-net"}
	}
	exceptions["github.com/rogpeppe/go-internal/txtar"] = []string{"scripts/conformance"} // a tool for tests
	exceptions["github.com/sirupsen/logrus"] = []string{"cmd/strata-step"}                // libcontainer's
	return exceptions
}

func invert(byFloor map[string][]string) map[string]string {
	floor := map[string]string{}
	for f, packages := range byFloor {
		for _, p := range packages {
			floor[p] = f
		}
	}
	return floor
}

// TestFloors holds that every package stands on a floor and imports lower ones only.
func TestFloors(t *testing.T) {
	floor := floorOf()
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		from := floor[f.dir]
		if from == "" && strings.HasPrefix(f.dir, "internal/") {
			t.Errorf("%s stands on no floor: give it one in floorOf", f.dir)
			continue
		}
		for _, imported := range f.imports {
			if complaint := judge(floor, f.dir, imported); complaint != "" {
				t.Errorf("%s: %s", f.name, complaint)
			}
		}
	}
}

// judge says what is wrong with package from importing the path, or "".
func judge(floor map[string]string, from, imported string) string {
	to, ours := strings.CutPrefix(imported, module+"/")
	if !ours {
		return ""
	}
	above, below := floor[from], floor[to]
	switch {
	case below == "":
		return fmt.Sprintf("%s imports %s, which stands on no floor", from, to)
	case above == "": // a program beside strata takes what it needs, except the command line
		above = "6"
	}
	if below >= above {
		return fmt.Sprintf("%s (floor %s) imports %s (floor %s)", from, above, to, below)
	}
	return ""
}

// TestBanned holds that heavy libraries stay out.
func TestBanned(t *testing.T) {
	bans, exceptions := banned(), allowed()
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imported := range f.imports {
			for prefix, why := range bans {
				if under(imported, prefix) && !slices.Contains(exceptions[imported], f.dir) {
					t.Errorf("%s: %s imports %s: %s", f.name, f.dir, imported, why)
				}
			}
		}
	}
}

// under reports whether an import path is prefix or below it.
func under(imported, prefix string) bool {
	rest, ok := strings.CutPrefix(imported, prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(prefix, "/"))
}

// TestPackagesExplainThemselves holds that every package says in one package comment what it is for.
func TestPackagesExplainThemselves(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t) {
		if !f.test {
			comments[f.dir] += f.comments
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1 (in doc.go)", dir, n)
		}
	}
}

// TestJudge holds the test itself.
func TestJudge(t *testing.T) {
	floor := map[string]string{"internal/x": "2", "internal/x2": "2", "internal/xb": "2b", "internal/y": "3", "internal/cli": "6b"}
	for _, c := range []struct{ from, imported, want string }{
		{"internal/y", "strata/internal/x", ""},
		{"internal/xb", "strata/internal/x", ""},
		{"internal/x", "os", ""},
		{"cmd/helper", "strata/internal/y", ""},
		{"internal/x", "strata/internal/y", "internal/x (floor 2) imports internal/y (floor 3)"},
		{"internal/x", "strata/internal/x2", "internal/x (floor 2) imports internal/x2 (floor 2)"},
		{"internal/x", "strata/internal/xb", "internal/x (floor 2) imports internal/xb (floor 2b)"},
		{"internal/y", "strata/internal/new", "internal/y imports internal/new, which stands on no floor"},
		{"cmd/helper", "strata/internal/cli", "cmd/helper (floor 6) imports internal/cli (floor 6b)"},
	} {
		if got := judge(floor, c.from, c.imported); got != c.want {
			t.Errorf("%s imports %s: got %q, want %q", c.from, c.imported, got, c.want)
		}
	}
	if !under("a/b", "a") || !under("a", "a") || under("ab", "a") || !under("a/b", "a/") {
		t.Error("under is wrong")
	}
}

// source is a Go file of the main module: its name and directory below root, and the paths that it imports.
type source struct {
	name, dir string
	test      bool
	comments  int // package comments
	imports   []string
}

// sources reads the import lines of every Go file below root, other modules and test data left out.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(p, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		s, err := readSource(p)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// skipDir reports whether a directory is none of the main module's packages.
func skipDir(p, name string) bool {
	if p == root {
		return false
	}
	if name == "testdata" || name == "bin" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(p, "go.mod"))
	return err == nil
}

func readSource(p string) (source, error) {
	file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	name, err := filepath.Rel(root, p)
	if err != nil {
		return source{}, err
	}
	s := source{name: filepath.ToSlash(name), test: strings.HasSuffix(p, "_test.go")}
	s.dir = path.Dir(s.name)
	if file.Doc != nil {
		s.comments = 1
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}
