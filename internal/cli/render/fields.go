package render

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ShortID is the twelve digits by which a person calls an image or a container. An algorithm in front is dropped.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	return truncate(id, 12)
}

// ID is id as a listing shows it: whole with --no-trunc, else [ShortID].
func ID(id string, noTrunc bool) string {
	if noTrunc {
		return id
	}
	return ShortID(id)
}

// Text is s as a listing shows it: whole with --no-trunc, else [Ellipsis].
func Text(s string, width int, noTrunc bool) string {
	if noTrunc {
		return s
	}
	return Ellipsis(s, width)
}

// Command is a container's command line as `ps` shows it: quoted, 20 characters of it unless noTrunc. Arguments with
// blanks stand in single quotes.
func Command(path string, args []string, noTrunc bool) string {
	line := path
	for _, arg := range args {
		if strings.Contains(arg, " ") {
			arg = "'" + arg + "'"
		}
		line += " " + arg
	}
	return strconv.Quote(Text(line, 20, noTrunc))
}

// Labels is "name=value,…" in the order of names.
func Labels(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return strings.Join(pairs, ",")
}

// ContainerSize is the size column of `ps -s`: what the container wrote and, if known, its image with it.
func ContainerSize(written, virtual int64) string {
	size := HumanSizePrecision(written, 3)
	if virtual > 0 {
		size += " (virtual " + HumanSizePrecision(virtual, 3) + ")"
	}
	return size
}

// Reclaimable is the last column of `system df`.
func Reclaimable(bytes, total int64) string {
	if total <= 0 {
		return HumanSize(bytes)
	}
	return fmt.Sprintf("%s (%d%%)", HumanSize(bytes), int64(float64(bytes)*100/float64(total)))
}

// ContainerState is what the STATUS column tells of.
type ContainerState struct {
	// Status is docker's: created, running, paused, restarting, removing, exited, dead.
	Status            string
	ExitCode          int
	Started, Finished time.Time
	// Health is "", starting, healthy or unhealthy.
	Health string
}

// Text is the STATUS column: "Up 5 minutes (healthy)", "Exited (0) 3 hours ago".
func (s ContainerState) Text(now time.Time) string {
	switch s.Status {
	case "running":
		return "Up " + HumanDuration(now.Sub(s.Started)) + s.health()
	case "paused":
		return "Up " + HumanDuration(now.Sub(s.Started)) + " (Paused)"
	case "restarting":
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, HumanDuration(now.Sub(s.Finished)))
	case "removing":
		return "Removal In Progress"
	case "dead":
		return "Dead"
	case "exited":
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, HumanDuration(now.Sub(s.Finished)))
	}
	return "Created"
}

func (s ContainerState) health() string {
	switch s.Health {
	case "":
		return ""
	case "starting":
		return " (health: starting)"
	}
	return " (" + s.Health + ")"
}
