package main

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"io"
	"net/http"

	"github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/yuin/goldmark"
	highlighting "github.com/yuin/goldmark-highlighting/v2"
	"github.com/yuin/goldmark/extension"
)

//go:embed assets
var assets embed.FS

const maxNote = 1 << 20

type server struct {
	notes  *store
	pages  *template.Template
	render goldmark.Markdown
	shown  *prometheus.CounterVec
}

// handler serves the notes of a store as pages, with their code in colour.
func handler(notes *store) http.Handler {
	metrics := prometheus.NewRegistry()
	s := &server{
		notes: notes,
		pages: template.Must(template.ParseFS(assets, "assets/*.html")),
		render: goldmark.New(goldmark.WithExtensions(extension.GFM,
			highlighting.NewHighlighting(highlighting.WithStyle("github"), highlighting.WithFormatOptions(html.WithLineNumbers(true))))),
		shown: promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{Name: "notes_shown_total", Help: "How often each note was shown."}, []string{"note"}),
	}
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Get("/", s.list)
	r.Get("/notes/{name}", s.show)
	r.Put("/notes/{name}", s.put)
	r.Handle("/assets/*", http.FileServer(http.FS(assets)))
	r.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return r
}

func (s *server) list(w http.ResponseWriter, _ *http.Request) {
	names, err := s.notes.names()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.page(w, "list.html", names)
}

func (s *server) show(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "name")
	text, err := s.notes.get(name)
	if errors.Is(err, errNone) {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	var body bytes.Buffer
	if err == nil {
		err = s.render.Convert(text, &body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.shown.WithLabelValues(name).Inc()
	s.page(w, "note.html", map[string]any{"Name": name, "Body": template.HTML(body.String())})
}

func (s *server) put(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNote))
	if err == nil {
		err = s.notes.put(chi.URLParam(r, "name"), text)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) page(w http.ResponseWriter, name string, data any) {
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = page.WriteTo(w) // nobody is left to tell
}
