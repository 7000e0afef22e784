package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sortTags orders tags by version, the highest first; what begins with no number follows by name.
func sortTags(tags []string) []string {
	sorted := slices.Clone(tags)
	slices.SortFunc(sorted, compareTags)
	return sorted
}

// compareTags compares number by number and word by word: 1.10 comes before 1.9, 1.9 before 1.9-rc1.
func compareTags(a, b string) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	a, b = strings.TrimPrefix(a, "v"), strings.TrimPrefix(b, "v")
	for a != "" && b != "" {
		var x, y string
		x, a = nextPart(a)
		y, b = nextPart(b)
		if c := compareParts(x, y); c != 0 {
			return c
		}
	}
	if a == b {
		return 0
	}
	if a == "" {
		return tail(b)
	}
	return -tail(a)
}

// tail says where a version stands that goes on with rest: 1.9.1 before 1.9, 1.9-rc1 after it.
func tail(rest string) int {
	if rest[0] == '-' {
		return -1
	}
	return 1
}

// rank puts versions before words.
func rank(tag string) int {
	if tag = strings.TrimPrefix(tag, "v"); tag != "" && tag[0] >= '0' && tag[0] <= '9' {
		return 0
	}
	return 1
}

// nextPart cuts the run of digits, or the one of anything else, with which s begins.
func nextPart(s string) (part, rest string) {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	i := 1
	for i < len(s) && digit(s[i]) == digit(s[0]) {
		i++
	}
	return s[:i], s[i:]
}

func compareParts(x, y string) int {
	n, errX := strconv.ParseUint(x, 10, 64)
	m, errY := strconv.ParseUint(y, 10, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(m, n)
	}
	if c := cmp.Compare(dash(x), dash(y)); c != 0 {
		return c
	}
	return cmp.Compare(x, y)
}

// dash tells "-rc1" from ".1".
func dash(part string) int {
	if part[0] == '-' {
		return 1
	}
	return 0
}

// newest is the tag that a person most likely wants.
func newest(tags []string) string { return sortTags(tags)[0] }

// someTags lists the first of the sorted tags and says how many more there are.
func someTags(tags []string) string {
	sorted := sortTags(tags)
	more := ""
	if n := len(sorted) - shownTags; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
		sorted = sorted[:shownTags]
	}
	return strings.Join(sorted, ", ") + more
}
