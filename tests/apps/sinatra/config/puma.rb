port ENV.fetch("PORT"), "0.0.0.0"
environment "production"
workers 2
threads 5, 5
preload_app!
