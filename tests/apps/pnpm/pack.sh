npm install --global --no-audit --no-fund --loglevel=error pnpm@10.34.9
pnpm install --prod
