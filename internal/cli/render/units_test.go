package render_test

import (
	"strings"
	"testing"
	"time"

	"strata/internal/cli/render"
)

func TestHumanSize(t *testing.T) {
	for _, c := range []struct {
		bytes       int64
		four, three string
	}{
		{0, "0B", "0B"},
		{1, "1B", "1B"},
		{999, "999B", "999B"},
		{1000, "1kB", "1kB"},
		{1024, "1.024kB", "1.02kB"},
		{1234, "1.234kB", "1.23kB"},
		{999_499, "999.5kB", "999kB"},
		{999_500, "999.5kB", "1MB"}, // docker: 1e+03kB
		{999_999, "1MB", "1MB"},     // docker: 1000kB, 1e+03kB
		{1_000_000, "1MB", "1MB"},
		{1_048_576, "1.049MB", "1.05MB"},
		{12_345_678, "12.35MB", "12.3MB"},
		{123_456_789, "123.5MB", "123MB"},
		{2_746_000_000, "2.746GB", "2.75GB"},
		{3_420_000_000_000, "3.42TB", "3.42TB"},
		{5_372_000_000_000_000, "5.372PB", "5.37PB"},
		{9_223_372_036_854_775_807, "9.223EB", "9.22EB"},
		{-5, "-5B", "-5B"},
	} {
		if got := render.HumanSize(c.bytes); got != c.four {
			t.Errorf("HumanSize(%d) = %s, want %s", c.bytes, got, c.four)
		}
		if got := render.HumanSizePrecision(c.bytes, 3); got != c.three {
			t.Errorf("HumanSizePrecision(%d, 3) = %s, want %s", c.bytes, got, c.three)
		}
	}
}

func TestHumanDuration(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Minute:            "Less than a second",
		450 * time.Millisecond:  "Less than a second",
		1 * time.Second:         "1 second",
		45 * time.Second:        "45 seconds",
		59 * time.Second:        "59 seconds",
		60 * time.Second:        "About a minute",
		119 * time.Second:       "About a minute",
		3 * time.Minute:         "3 minutes",
		59 * time.Minute:        "59 minutes",
		60 * time.Minute:        "About an hour",
		89 * time.Minute:        "About an hour",
		90 * time.Minute:        "2 hours",
		3 * time.Hour:           "3 hours",
		47 * time.Hour:          "47 hours",
		48 * time.Hour:          "2 days",
		7 * day:                 "7 days",
		13*day + 5*time.Hour:    "13 days",
		14 * day:                "2 weeks",
		13*7*day + 12*time.Hour: "3 months",
		59 * day:                "8 weeks",
		60 * day:                "2 months",
		729 * day:               "24 months",
		730 * day:               "2 years",
		3*365*day + 60*day:      "3 years",
	} {
		if got := render.HumanDuration(d); got != want {
			t.Errorf("HumanDuration(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct{ got, want string }{
		{render.Ago(ago(5*time.Minute), now), "5 minutes ago"},
		{render.Ago(time.Unix(0, 0), now), "N/A"},
		{render.Ago(time.Time{}, now), "N/A"},
		{render.Time(time.Time{}), "0001-01-01T00:00:00Z"},
		{render.ShortID("sha256:" + strings.Repeat("ab", 32)), "abababababab"},
		{render.ID("sha256:ab", true), "sha256:ab"},
		{render.ID("<missing>", false), "<missing>"},
		{render.Command("sh", []string{"-c", "a \"b\""}, true), `"sh -c 'a \"b\"'"`},
		{render.Command("sh", []string{"-c", "x"}, true), `"sh -c x"`},
		{render.BinarySize(0), "0B"},
		{render.BinarySize(1023), "1023B"},
		{render.BinarySize(1536), "1.5KiB"},
		{render.BinarySize(25275691008), "23.54GiB"},
		{render.Percent(12.345), "12.35%"},
		{render.Pair(1500, 0), "1.5kB / 0B"},
		{render.Pair(-1, -1), "-- / --"},
		{render.Ellipsis("日本語テキスト", 6), "日本…"},
		{render.Ellipsis("abc", 3), "abc"},
		{render.Ellipsis("abcd", 3), "ab…"},
		{render.Ellipsis("abcd", 0), ""},
		{render.Reclaimable(10, 30), "10B (33%)"},
		{render.ContainerState{Status: "running", Started: ago(300 * time.Second)}.Text(now), "Up 5 minutes"},
		{render.ContainerState{Status: "running", Started: ago(time.Hour), Health: "healthy"}.Text(now), "Up About an hour (healthy)"},
		{render.ContainerState{Status: "running", Started: ago(time.Hour), Health: "starting"}.Text(now), "Up About an hour (health: starting)"},
		{render.ContainerState{Status: "paused", Started: ago(time.Hour)}.Text(now), "Up About an hour (Paused)"},
		{render.ContainerState{Status: "restarting", ExitCode: 1, Finished: ago(time.Second)}.Text(now), "Restarting (1) 1 second ago"},
		{render.ContainerState{Status: "exited", ExitCode: 137, Finished: ago(72 * time.Hour)}.Text(now), "Exited (137) 3 days ago"},
		{render.ContainerState{Status: "created"}.Text(now), "Created"},
		{render.ContainerState{Status: "dead"}.Text(now), "Dead"},
		{render.ContainerState{Status: "removing"}.Text(now), "Removal In Progress"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
