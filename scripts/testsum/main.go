// Command testsum reads what `go test -json` prints and says it shorter: a line for each package, the whole output of what
// failed, and at the end which tests were skipped and why. It ends with 1 if anything failed; with -strict also if anything
// was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string
	Elapsed                       float64
}

// summary is what was seen so far.
type summary struct {
	output                  map[string][]string // of a test or package that has not ended
	skips, notes            []string
	failed                  []string
	passed, broken, skipped int
}

func main() {
	strict := flag.Bool("strict", false, "fail if a test was skipped")
	flag.Parse()
	s := &summary{output: map[string][]string{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		s.add(e)
	}
	s.end()
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if s.broken > 0 || len(s.failed) > 0 || *strict && s.skipped > 0 {
		os.Exit(1)
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		fmt.Print(e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			s.endPackage(e, key)
		} else {
			s.endTest(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) endTest(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
		s.note(s.output[key])
	case "skip":
		s.skipped++
		s.skips = append(s.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(s.output[key])))
	case "fail":
		s.broken++
		fmt.Print(strings.Join(s.output[key], ""))
	}
}

func (s *summary) endPackage(e event, key string) {
	switch e.Action {
	case "pass":
		fmt.Printf("ok    %-40s %v\n", e.Package, time.Duration(e.Elapsed*float64(time.Second)).Round(time.Millisecond))
	case "fail":
		s.failed = append(s.failed, e.Package)
		fmt.Printf("%sFAIL  %s\n", strings.Join(s.output[key], ""), e.Package)
	}
}

// note keeps what a suite that injects faults says of its work.
func (s *summary) note(output []string) {
	for _, line := range output {
		if _, said, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.Contains(said, "faults injected") {
			s.notes = append(s.notes, strings.TrimSpace(said))
		}
	}
}

// reason is what a test said when it skipped.
func reason(output []string) string {
	for i := len(output) - 1; i >= 0; i-- {
		line := strings.TrimSpace(output[i])
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			if _, said, ok := strings.Cut(line, ": "); ok {
				return said
			}
			return line
		}
	}
	return "no reason given"
}

func (s *summary) end() {
	if len(s.notes) > 0 {
		fmt.Printf("\n%s\n", strings.Join(s.notes, "\n"))
	}
	if len(s.skips) > 0 {
		sort.Strings(s.skips)
		fmt.Printf("\nskipped:\n  %s\n", strings.Join(s.skips, "\n  "))
	}
	if len(s.failed) > 0 {
		fmt.Printf("\nfailed: %s\n", strings.Join(s.failed, " "))
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", s.passed, s.broken, s.skipped)
}
