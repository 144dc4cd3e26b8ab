<?php
$answer = getenv('GREETING');
if ($_SERVER['REQUEST_URI'] === '/slow') {
    sleep(6);
}
header('Content-Length: ' . strlen($answer));
echo $answer;
