package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"strata/internal/cli/render"
	"strata/internal/errdef"
)

// What docker 28.2 prints for the same containers.
func containers() []render.ContainerRow {
	return []render.ContainerRow{
		{
			ID: "aaaaaaaaaaaa", Image: "nginx:latest",
			Command:   render.Command("nginx", []string{"-g", "daemon off;", "--long-long"}, false),
			CreatedAt: "2026-11-21 00:44:11 +0000 UTC", RunningFor: "5 minutes ago", Status: "Up 5 minutes", State: "running",
			Names: "web", Networks: "host", Size: render.ContainerSize(1234, 123456789),
			Mounts: "/very/long/sou…,dddddddddddddd…", LocalVolumes: "1",
			Labels:      render.Labels(map[string]string{"b.x-y": "1", "a": "2"}),
			LabelValues: map[string]string{"b.x-y": "1", "a": "2"},
		},
		{
			ID: "cccccccccccc", Image: "postgres", Command: render.Command("sh", nil, false),
			CreatedAt: "2026-11-19 23:49:11 +0000 UTC", RunningFor: "25 hours ago", Status: "Exited (0) 3 minutes ago",
			State: "exited", Names: "db", Networks: "none", Size: render.ContainerSize(0, 0), LocalVolumes: "0",
		},
	}
}

func images() []render.ImageRow {
	return []render.ImageRow{
		{Repository: "app", Tag: "1", ID: "111111111111", CreatedSince: "2 hours ago", Size: "1.23MB", Digest: "<none>"},
		{Repository: "<none>", Tag: "<none>", ID: "222222222222", CreatedSince: "N/A", Size: "1MB", Digest: "<none>"},
	}
}

func TestContainerListings(t *testing.T) {
	for _, c := range []struct {
		name string
		list render.List
		want string
	}{
		{"table", render.List{Columns: render.ContainerColumns(false)}, `
CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS                     PORTS     NAMES
aaaaaaaaaaaa   nginx:latest   "nginx -g 'daemon of…"   5 minutes ago   Up 5 minutes                         web
cccccccccccc   postgres       "sh"                     25 hours ago    Exited (0) 3 minutes ago             db
`},
		{"sizes", render.List{Format: "table", Columns: render.ContainerColumns(true)}, `
CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS                     PORTS     NAMES     SIZE
aaaaaaaaaaaa   nginx:latest   "nginx -g 'daemon of…"   5 minutes ago   Up 5 minutes                         web       1.23kB (virtual 123MB)
cccccccccccc   postgres       "sh"                     25 hours ago    Exited (0) 3 minutes ago             db        0B
`},
		{"quiet", render.List{Quiet: true, Columns: render.ContainerColumns(false)}, "\naaaaaaaaaaaa\ncccccccccccc\n"},
		{"quiet, other key", render.List{Quiet: true, Key: "Names"}, "\nweb\ndb\n"},
		{"table template", render.List{Format: `table {{.ID}}\t{{.Names}}\t{{upper .Image}}`}, `
CONTAINER ID   NAMES     IMAGE
aaaaaaaaaaaa   web       NGINX:LATEST
cccccccccccc   db        POSTGRES
`},
		{"escapes in a template", render.List{Format: `{{.ID}}\t{{.Label "a"}}\n`},
			"\naaaaaaaaaaaa\t2\n\ncccccccccccc\t\n\n"},
		{"headings stay as they are", render.List{Format: `table {{.Label "b.x-y"}} {{json .Names}} {{pad .Image 2 3}} {{truncate .ID 3}}`},
			"\nx y NAMES   IMAGE    CONTAINER ID\n1 \"web\"   nginx:latest    aaa\n \"db\"   postgres    ccc\n"},
		{"odd columns", render.List{Format: `table {{.Mounts}}\t{{.LocalVolumes}}\t{{.Labels}}\t{{.Networks}}\t{{.State}}\t{{.CreatedAt}}`}, `
MOUNTS                            LOCAL VOLUMES   LABELS        NETWORKS   STATE     CREATED AT
/very/long/sou…,dddddddddddddd…   1               a=2,b.x-y=1   host       running   2026-11-21 00:44:11 +0000 UTC
                                  0                             none       exited    2026-11-19 23:49:11 +0000 UTC
`},
		{"split and range", render.List{Format: `table {{ .ID }}  {{range split .Names ","}}{{.}}{{end}}`},
			"\nCONTAINER ID  \naaaaaaaaaaaa  web\ncccccccccccc  db\n"},
		{"println", render.List{Format: `{{println .ID}}`}, "\naaaaaaaaaaaa\n\ncccccccccccc\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := render.Rows(&b, c.list, containers()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want[1:], b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestImageListings(t *testing.T) {
	for _, c := range []struct {
		name string
		list render.List
		rows []render.ImageRow
		want string
	}{
		{"table", render.List{Columns: render.ImageColumns(false)}, images(), `
REPOSITORY   TAG       IMAGE ID       CREATED       SIZE
app          1         111111111111   2 hours ago   1.23MB
<none>       <none>    222222222222   N/A           1MB
`},
		{"digests", render.List{Columns: render.ImageColumns(true)}, images(), `
REPOSITORY   TAG       DIGEST    IMAGE ID       CREATED       SIZE
app          1         <none>    111111111111   2 hours ago   1.23MB
<none>       <none>    <none>    222222222222   N/A           1MB
`},
		{"empty", render.List{Columns: render.ImageColumns(false)}, nil, "\nREPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"},
		{"empty json", render.List{Format: "json"}, nil, "\n"},
		{"empty table template", render.List{Format: `table {{.ID}}\t{{.Tag}}`}, nil, "\nIMAGE ID   TAG\n"},
		{"a template wins over quiet", render.List{Format: "{{.Tag}}", Quiet: true}, images(), "\n1\n<none>\n"},
		{"json", render.List{Format: "json"}, images()[1:], `
{"Containers":"","CreatedAt":"","CreatedSince":"N/A","Digest":"<none>","ID":"222222222222","Repository":"<none>","SharedSize":"","Size":"1MB","Tag":"<none>","UniqueSize":"","VirtualSize":""}
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := render.Rows(&b, c.list, c.rows); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want[1:], b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOtherListings(t *testing.T) {
	var b strings.Builder
	history := []render.HistoryRow{
		{ID: "111111111111", CreatedSince: "2 hours ago", CreatedBy: render.Text("RUN /bin/sh -c echo a b && a very long command line", 45, false), Size: "5B", Comment: "buildkit.dockerfile.v0"},
		{ID: "<missing>", CreatedSince: "N/A", CreatedBy: "/bin/sh -c #(nop) CMD", Size: "0B"},
	}
	usage := []render.DiskUsageRow{
		{Type: "Images", TotalCount: "2", Active: "0", Size: render.HumanSize(12345678), Reclaimable: render.Reclaimable(12345678, 12345678)},
		{Type: "Local Volumes", TotalCount: "0", Active: "0", Size: "0B", Reclaimable: render.Reclaimable(0, 0)},
	}
	if err := render.Rows(&b, render.List{Columns: render.HistoryColumns(true)}, history); err != nil {
		t.Fatal(err)
	}
	if err := render.Rows(&b, render.List{Columns: render.DiskUsageColumns()}, usage); err != nil {
		t.Fatal(err)
	}
	want := `IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT
111111111111   2 hours ago   RUN /bin/sh -c echo a b && a very long comma…   5B        buildkit.dockerfile.v0
<missing>      N/A           /bin/sh -c #(nop) CMD                           0B        
TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
Images          2         0         12.35MB   12.35MB (100%)
Local Volumes   0         0         0B        0B
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestListingErrors(t *testing.T) {
	for _, c := range []struct {
		list  render.List
		rows  []render.ContainerRow
		want  string
		class error
	}{
		{render.List{Format: "{{.Foo"}, nil, "failed to parse template: template: :1: unclosed action", errdef.ErrInvalid},
		{render.List{Format: "x{{.Foo}}"}, containers(), `failed to execute template: template: :1:3: executing "" at <.Foo>: can't evaluate field Foo in type render.ContainerRow`, errdef.ErrInvalid},
		{render.List{Format: "table {{.Foo}}"}, nil, `failed to execute template: template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"`, errdef.ErrInvalid},
		{render.List{Format: "raw"}, nil, `format "raw": not supported`, errdef.ErrUnsupported},
		{render.List{Columns: []string{"Nope"}}, nil, `column "Nope" of ContainerRow: not found`, errdef.ErrNotFound},
	} {
		var b strings.Builder
		err := render.Rows(&b, c.list, c.rows)
		if err == nil || err.Error() != c.want || !errors.Is(err, c.class) {
			t.Errorf("%+v: got error %v, want %s", c.list, err, c.want)
		}
		if b.Len() > 0 {
			t.Errorf("%+v: printed %q before the error", c.list, b.String())
		}
	}
}

func TestTableCellsAreClean(t *testing.T) {
	var b strings.Builder
	if err := render.Table(&b, []string{"A", "B"}, [][]string{{"x\ty\nz", "\x1b]0;title\aq\u202e"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A         B\nx y z     q\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestHeadingFromName(t *testing.T) {
	type row struct{ ID, BuildID, LastUsedAt string }
	var b strings.Builder
	if err := render.Rows(&b, render.List{Columns: []string{"ID", "LastUsedAt"}}, []row{}); err != nil {
		t.Fatal(err)
	}
	if want := "ID        LAST USED AT\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestTemplateFunctions(t *testing.T) {
	type row struct{ S string }
	for format, want := range map[string]string{
		`{{title .S}}`:                "Héllo, World_x Don't",
		`{{lower .S}}`:                "héllo, world_x don't",
		`{{truncate .S 2}}|`:          "h|", // never half a character
		`{{truncate .S 99}}`:          "héllo, world_x don't",
		`{{truncate .S -1}}|`:         "|",
		`{{pad "" 3 3}}|`:             "|",
		`{{join (split .S ",") "+"}}`: "héllo+ world_x don't",
		`{{json .}}`:                  `{"S":"héllo, world_x don't"}`,
		`{{json "<&>"}}`:              `"<&>"`,
		`{{len .S}} {{eq .S "a"}}`:    "21 false",
	} {
		var b strings.Builder
		if err := render.Rows(&b, render.List{Format: format}, []row{{"héllo, world_x don't"}}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if b.String() != want+"\n" {
			t.Errorf("%s: got %q, want %q", format, b.String(), want)
		}
	}
}
