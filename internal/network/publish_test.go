package network_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"strata/internal/errdef"
	"strata/internal/network"
)

func show(list []network.Publish) string {
	var parts []string
	for _, p := range list {
		parts = append(parts, fmt.Sprintf("%s:%s:%s", p.Address(), p.HostPort(), p.Port))
	}
	return strings.Join(parts, " ")
}

func TestParsePublish(t *testing.T) {
	for spec, want := range map[string]string{
		"80":                       "::80/tcp",
		"80/udp":                   "::80/udp",
		"80/SCTP":                  "::80/sctp",
		"8080:80":                  ":8080:80/tcp",
		":80":                      "::80/tcp",
		"0:80":                     "::80/tcp",
		"8000-8010:80":             ":8000-8010:80/tcp",
		"8000-8001:90-91/udp":      ":8000:90/udp :8001:91/udp",
		"90-91":                    "::90/tcp ::91/tcp",
		"127.0.0.1:8080:80":        "127.0.0.1:8080:80/tcp",
		"127.0.0.1::80":            "127.0.0.1::80/tcp",
		"[::1]:8080:80":            "::1:8080:80/tcp",
		"::1:8080:80":              "::1:8080:80/tcp",
		"[::]:8080:80":             ":::8080:80/tcp",
		"target=80,published=8080": ":8080:80/tcp",
		"published=1,target=2,protocol=udp,mode=host": ":1:2/udp",
	} {
		got, err := network.ParsePublish(spec)
		if err != nil || show(got) != want {
			t.Errorf("%s: %s %v, want %s", spec, show(got), err, want)
		}
	}
	// As docker has them.
	for spec, want := range map[string]string{
		"":              "no port specified: <empty>",
		":":             "no port specified: :<empty>",
		"80:":           "no port specified: 80:<empty>",
		"abc":           "invalid containerPort: abc",
		"99999":         "invalid containerPort: 99999",
		"0":             "invalid containerPort: 0",
		"-80":           "invalid containerPort: -80",
		"80-70":         "invalid containerPort: 80-70",
		"x:80":          "invalid hostPort: x",
		"1-2:3-5":       "invalid ranges specified for container and host Ports: 3-5 and 1-2",
		"1.2.3:80:80":   "invalid IP address: 1.2.3",
		"80:80:80:80":   "invalid IP address: 80:80",
		"[::1:80:80":    "invalid IP address [::1: address [::1:: missing ']' in address",
		"80/foo":        "invalid proto: foo",
		"target=80,udp": "invalid publish opts format (should be name=value but got 'udp')",
	} {
		if _, err := network.ParsePublish(spec); err == nil || err.Error() != want || !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v, want %s", spec, err, want)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"80", "[::1]:1-2:3-4/udp", "127.0.0.1::80", "target=1,published=2", "fe80::1%eth0:80:80", "::ffff:1.2.3.4:1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		list, err := network.ParsePublish(spec)
		if err != nil {
			if !errors.Is(err, errdef.ErrInvalid) || len(err.Error()) > 400 {
				t.Errorf("%q: %v", spec, err)
			}
			return
		}
		for _, p := range list {
			if p.Port.Number == 0 || p.First > p.Last || p.First == 0 && p.Last != 0 {
				t.Errorf("%q: %+v", spec, p)
			}
			// What was read is written so that it reads the same, as -p and as a record.
			text := p.HostPort() + ":" + p.Port.String()
			if ip := p.Address(); ip != "" {
				text = "[" + ip + "]:" + text
			}
			again, err := network.ParsePublish(text)
			if err != nil || len(again) != 1 || again[0] != p {
				t.Errorf("%q: %q reads %+v, %v", spec, text, again, err)
			}
			raw, err := json.Marshal(p)
			var back network.Publish
			if err == nil {
				err = json.Unmarshal(raw, &back)
			}
			if err != nil || back != p {
				t.Errorf("%q: %s reads %+v, %v", spec, raw, back, err)
			}
		}
	})
}

func TestParsePorts(t *testing.T) {
	got, err := network.ParsePorts("8000-8002/udp")
	want := []network.Port{{Number: 8000, Protocol: "udp"}, {Number: 8001, Protocol: "udp"}, {Number: 8002, Protocol: "udp"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "x", "1-", "-1", "70000", "2-1", "80/icmp"} {
		if _, err := network.ParsePorts(bad); !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := network.ParsePort("80-81"); err == nil {
		t.Error("a range passed as a port")
	}
}

func TestSummary(t *testing.T) {
	four, six, lo := netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")
	tcp := func(n uint16) network.Port { return network.Port{Number: n, Protocol: "tcp"} }
	for want, in := range map[string]struct {
		exposed  []network.Port
		bindings []network.Binding
	}{
		"": {},
		"0.0.0.0:5000->80/tcp, [::]:5000->80/tcp": {[]network.Port{tcp(80)}, []network.Binding{{tcp(80), six, 5000}, {tcp(80), four, 5000}}},
		"33/tcp, 0.0.0.0:80-81->80-81/tcp, 127.0.0.1:6000->53/udp": {[]network.Port{tcp(33), tcp(80)},
			[]network.Binding{{tcp(81), four, 81}, {tcp(80), four, 80}, {network.Port{Number: 53, Protocol: "udp"}, lo, 6000}}},
		"33-34/tcp, 40/tcp": {[]network.Port{tcp(33), tcp(34), tcp(40)}, nil},
	} {
		if got := network.Summary(in.exposed, in.bindings); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
