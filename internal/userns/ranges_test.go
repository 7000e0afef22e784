package userns

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestParseSubIDs(t *testing.T) {
	text := "# comment\nann:100000:65536\nbob:5:5\n1000:200000:10\nann:x:1\nann:1:0\nann:4294967295:2\nann:1\n"
	got := parseSubIDs(strings.NewReader(text), []string{"1000", "ann"})
	want := []Range{{1, 100000, 65536}, {65537, 200000, 10}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseMap(t *testing.T) {
	full := Map{UIDs: parseMap("         0          0 4294967295\n")}
	if !full.Full() {
		t.Errorf("%v is not full", full)
	}
	part := parseMap("0 1000 1\n1 100000 65536\n")
	if (Map{UIDs: part}).Full() || count(part) != 65537 {
		t.Errorf("part: %v", part)
	}
}

func FuzzParseSubIDs(f *testing.F) {
	f.Add("ann:100000:65536\n")
	f.Add("ann:4294967295:1\nann:0:4294967295")
	f.Fuzz(func(t *testing.T, text string) {
		next := uint64(1)
		for _, r := range parseSubIDs(strings.NewReader(text), []string{"1", "ann"}) {
			if uint64(r.Inside) != next || r.Count == 0 || uint64(r.Outside)+uint64(r.Count) > math.MaxUint32 {
				t.Fatalf("%q: %v", text, r)
			}
			next += uint64(r.Count)
		}
	})
}
