{{/* How values are written, read: Go's durations, sizes of both worlds, comma lists. */}}

{{/* Whole seconds, rounded up, of a duration as Hermes takes it: 1m30s gives 90. */}}
{{- define "hermes.seconds" -}}
{{- $lengths := dict "ns" 1e-9 "us" 1e-6 "µs" 1e-6 "ms" 1e-3 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll "([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|ms|s|m|h)" . -1 -}}
{{- $number := regexFind "^[0-9.]+" . | trimSuffix "." | float64 -}}
{{- $seconds = addf $seconds (mulf $number (get $lengths (regexFind "[a-zµ]+$" .))) -}}
{{- end -}}
{{- ceil $seconds | int64 -}}
{{- end }}

{{/* Bytes of a size (10GiB, 10MB, 1024) or of a Kubernetes quantity (10Gi, 10M). */}}
{{- define "hermes.bytes" -}}
{{- $text := include "hermes.text" . | upper | trimSuffix "B" -}}
{{- $factors := dict "" 1 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "KI" 1024 "MI" 1048576 "GI" 1073741824 "TI" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $factors (regexFind "[A-Z]*$" $text)) | int64 -}}
{{- end }}

{{/* A value as the text of an environment variable: numbers come as floats, and large ones would get an exponent. Null: none. */}}
{{- define "hermes.text" -}}
{{- if kindIs "invalid" . }}{{ else if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* Whether the sinks that run include this one: list of the root and the name. Empty for no. */}}
{{- define "hermes.runsSink" -}}
{{- $root := index . 0 -}}
{{- $names := splitList "," ($root.Values.settings.SINKS | default (ternary "postgres" "null" (hasKey $root.Values.secrets "DB_DSN"))) -}}
{{- range $names }}{{ if eq (trim .) (index $ 1) }}yes{{ end }}{{ end -}}
{{- end }}

{{/* What a stop may take: serving on, SHUTDOWN_TIMEOUT, and five seconds to end the process. */}}
{{- define "hermes.gracePeriod" -}}
{{- add .Values.ingest.preStopSeconds (include "hermes.seconds" (.Values.settings.SHUTDOWN_TIMEOUT | default "30s")) 5 -}}
{{- end }}
